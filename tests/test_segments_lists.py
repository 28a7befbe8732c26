"""Lists of segments in every form, the recordings they belong to, and what is done to their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.errors import DataError, EdgeAudioError
from edgeaudio.segments.naming import Naming, fitted
from edgeaudio.segments.pairing import guesses, listed_alone, pairs
from edgeaudio.segments.reading import Segment, read_segments

WANTED = [(0.0, 1.5, "dog"), (1.5, 3.25, "glass breaking")]
FORMS = {
    "tabs": "0\t1.5\tdog\n1.5\t3.25\tglass breaking\n",
    "commas": "0,1.5,dog\n1.5, 3.25, glass breaking\n",
    "semicolons": "0;1.5;dog\n1.5;3.25;glass breaking\n",
    "spaces": "0 1.5 dog\n 1.5   3.25 glass breaking\n",
    "byte order mark, comments, empty lines": "\ufeff# mine\n0 1.5 dog\r\n\r\n1.5 3.25 glass breaking",
    "Audacity with frequencies": "0.0\t1.5\tdog\n\\\t100.0\t900.0\n1.5\t3.25\tglass breaking\n",
    "DCASE header": "onset\toffset\tevent_label\n0\t1.5\tdog\n1.5\t3.25\tglass breaking\n",
    "DCASE path": "a.wav\t0\t1.5\tdog\na.wav\t1.5\t3.25\tglass breaking\n",
    "DCASE path and scene": "a.wav\thome\t0\t1.5\tdog\na.wav\thome\t1.5\t3.25\tglass breaking\n",
    "path, spaces": "a.wav 0 1.5 dog\na.wav 1.5 3.25 glass breaking\n",
    "other order": "label,end,start\ndog,1.5,0\nglass breaking,3.25,1.5\n",
    "our CSV": "path,start,end,label,peak,mean\na.wav,0.0,1.5,dog,0.9,0.8\n"
    "a.wav,1.5,3.25,glass breaking,1,1\n",
    "our text": "a.wav: 0.00–1.50 s: dog (peak 0.9, mean 0.8)\n"
    "a.wav: 1.50–3.25 s: glass breaking (peak 1, mean 1)",
    "our JSON": '[{"path": "a.wav", "start": 0, "end": 1.5, "label": "dog"},\n'
    '{"start": 1.5, "end": 3.25, "label": "glass breaking", "peak": 1}]',
    "our JSON lines": '{"start": 0, "end": 1.5, "label": "dog"}\n\n'
    '{"start":1.5,"end":3.25,"label":"glass breaking"}',
}  # fmt: skip


def listed(folder: Path, text: str, name: str = "list.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: str, tmp_path: Path) -> None:
    segments = read_segments(listed(tmp_path, FORMS[form]))
    assert [(s.start, s.end, s.label) for s in segments] == WANTED
    assert {s.path for s in segments} <= {"", "a.wav"}


def test_labels_that_look_like_something_else(tmp_path: Path) -> None:
    text = '0\t1\t"Dog", domestic\n1\t2\tbell; 5" high\n'
    assert [s.label for s in read_segments(listed(tmp_path, text))] == ['"Dog", domestic', 'bell; 5" high']
    assert [s.label for s in read_segments(listed(tmp_path, '0,1,"Dog, domestic"'))] == ["Dog, domestic"]
    assert read_segments(listed(tmp_path, "a.wav: no events\n")) == []
    assert read_segments(listed(tmp_path, "")) == []


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("0 1 dog\n1 two dog", 2, "'1 two dog' is no segment; write start, end (in seconds) and label"),
        ("0 1 dog\n\n2 1 dog", 3, "goes from 2 to 1 s, which has no length"),
        ("0 1 dog\n2 2 dog", 2, "goes from 2 to 2 s, which has no length"),
        ("-1 1 dog", 1, "starts at -1 s; times count from the beginning, 0"),
        ("0\tnan\tdog", 1, "the end is 'nan'; write seconds"),
        ("0 1", 1, "is no segment"),
        ("0\t1\t ", 1, "has no label"),
        ("0,1,dog,bark", 1, "4 fields in place of start, end and label; put a label with commas in quotes"),
        ("start,end,label\n0,1", 2, "2 fields where the header promises 3 or more"),
        ("onset offset\n0 1 dog", 1, "'onset offset' is no segment"),
        ('[{"start": 0, "end": 1}]', 1, "a segment without label"),
        ('{"start": 0, "end": 1, "label": "a"}\n{"start": 0,', 2, "not valid JSON"),
        ("[3]", 1, "3 is no object with start, end and label"),
    ],
)
def test_what_is_no_segment_is_told_by_its_line(text: str, line: int, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_segments(listed(tmp_path, text))
    assert f"list.txt:{line}: " in str(caught.value)
    assert sentence in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("0 1 Vögel".encode("latin-1"))
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_segments(tmp_path / "latin.txt")


# ── which list is of which recording ─────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for name in ("a", "b.1", "c"):
        soundfile.write(sounds / f"{name}.wav", np.zeros(800), 8000)
    return sounds


def names(found: list) -> list[tuple[str, list[str]]]:
    return [(pair.recording.name, [s.label for s in pair.segments]) for pair in found]


def test_recordings_and_lists_in_turn(folder: Path) -> None:
    one, other = listed(folder, "0 1 dog", "x.txt"), listed(folder, "0 1 cat", "y.txt")
    found = pairs([folder / "a.wav", one, folder / "c.wav", other], [])
    assert names(found) == [("a.wav", ["dog"]), ("c.wav", ["cat"])]


def test_lists_beside_their_recordings_and_in_another_folder(folder: Path) -> None:
    listed(folder, "0 1 dog", "a.tsv")
    listed(folder, "0 1 cat", "b.1.csv")
    left_out: list[Path] = []
    assert names(pairs([folder], left_out)) == [("a.wav", ["dog"]), ("b.1.wav", ["cat"])]
    assert [path.name for path in left_out] == ["c.wav"]
    (truth := folder.parent / "truth").mkdir()
    listed(truth, "0 1 owl", "c.txt")
    assert names(pairs([folder, truth], [])) == [("c.wav", ["owl"])]
    assert names(pairs([folder / "c.wav", truth], [])) == [("c.wav", ["owl"])]
    with pytest.raises(DataError, match=r"truth has no list for a\.wav, such as a\.txt"):
        pairs([folder / "a.wav", truth], [])


def test_one_list_that_names_its_recordings(folder: Path) -> None:
    path = listed(
        folder.parent, "filename\tonset\toffset\tevent_label\nin/b.1.wav\t0\t1\tcat\nc\t0\t1\towl\n"
    )
    assert names(pairs([folder, path], [])) == [("b.1.wav", ["cat"]), ("c.wav", ["owl"])]
    assert names(pairs([folder / "c.wav", path], [])) == [("c.wav", ["owl"])]
    alone = listed_alone(path)
    assert [str(pair.recording) for pair in alone] == ["b.1", "c"]
    guess = listed(folder.parent, "c.wav\t0\t1\tmouse\n", "guess.txt")
    assert names(guesses(alone, guess)) == [("b.1", []), ("c", ["mouse"])]  # it may have heard nothing


def test_a_recording_in_which_nothing_sounds(folder: Path) -> None:
    text = "filename\tonset\toffset\tevent_label\na.wav\t\t\t\nc.wav\t0\t1\towl\n"
    path = listed(folder.parent, text)
    assert names(pairs([folder, path], [])) == [("a.wav", []), ("c.wav", ["owl"])]
    assert names(pairs([folder / "a.wav", path], [])) == [("a.wav", [])]


def test_what_has_no_partner(folder: Path) -> None:
    one = listed(folder, "0 1 dog", "a.txt")
    named = listed(folder, "b.1.wav\t0\t1\tcat\n", "named.txt")
    for words, sentence in (
        ([folder / "a.wav"], "a.wav has no list of segments"),
        ([one, folder / "a.wav"], "a.txt is no sound file; name each recording before its list"),
        ([folder / "a.wav", folder / "c.wav"], "c.wav is no list of segments"),
        ([folder / "a.wav", folder / "no.txt"], "no.txt: no such list"),
        ([folder / "no.wav", one], "no.wav: no such file or folder"),
        ([folder / "a.wav", named], "names no recording 'a.wav'; known: b.1"),
        ([folder, one], "doesn't say which recording each line is of; add a column 'path'"),
        ([], "name a recording and its list"),
    ):
        with pytest.raises(DataError, match=sentence.replace("(", r"\(")):
            pairs(words, [])
    listed(folder, "0 1 dog", "a.csv")
    with pytest.raises(DataError, match=r"a\.txt and a\.csv for a\.wav; keep one of them"):
        pairs([folder], [])


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_labels_are_renamed_and_left_out() -> None:
    segments = [Segment(0, 2, "woof", 1), Segment(1, 4, "dog", 2), Segment(3, 6, "music", 3)]
    naming = Naming.parse(["woof=dog"], ["music"])
    kept, ignored = naming.split(segments, ["dog", "cat"], Path("list.txt"))
    assert [(s.start, s.end, s.label) for s in kept] == [(0, 4, "dog")]
    assert [(s.start, s.end) for s in ignored] == [(4, 6)]  # before, a dog is told too
    assert [(s.start, s.end) for s in Naming(background="cat").filled(8.0, kept, ignored)] == [(6, 8)]


def test_labels_that_are_not_there() -> None:
    with pytest.raises(DataError) as caught:
        Naming().split([Segment(0, 1, "dgo", 7)], ["dog", "cat"], Path("list.txt"))
    assert str(caught.value) == (
        "list.txt:7: the bundle doesn't know the label 'dgo'; rename it by --map 'dgo'=CLASS or leave it out "
        "by --ignore 'dgo'; did you mean 'dog'?"
    )
    with pytest.raises(DataError, match="--map woof=dgo: unknown class 'dgo'; did you mean 'dog'"):
        Naming.parse(["woof=dgo"], []).split([Segment(0, 1, "woof")], ["dog"], Path("list.txt"))
    with pytest.raises(
        EdgeAudioError, match="--ignore 'musik': no list has this label; did you mean 'music'"
    ):
        Naming.parse([], ["musik"]).check(["music"])
    Naming.parse([], ["quiet"]).check(["music"], ["quiet"])  # a class that is predicted only
    with pytest.raises(EdgeAudioError, match="renames nothing; write --map OLD=NEW"):
        Naming.parse(["dog"], [])


def test_lists_end_with_their_recording() -> None:
    late = Segment(8, 10.05, "dog", 3)
    (cut,) = fitted([late, Segment(10.01, 10.02, "cat")], 10.0, Path("list.txt"), Path("a.wav"))
    assert (cut.start, cut.end) == (8, 10.0)
    with pytest.raises(DataError, match=r"list.txt:3: ends at 10.05 s, but a.wav is 9.50 s long"):
        fitted([late], 9.5, Path("list.txt"), Path("a.wav"))
