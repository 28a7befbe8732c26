"""A data set read by the user's own code."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data.clips import Clips
from edgeaudio.data.readers import CsvColumns, read
from edgeaudio.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dog_1.wav", "dog_2.wav", "cat_1.wav"):
        (tmp_path / "data").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "data" / name, np.full(8000, 0.1), 8000)
    return tmp_path / "data"


def parsed(folder: Path, code: str, name: str = "parse") -> Clips:
    path = folder.parent / "mine.py"
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    return read(folder, parser=f"{path}:{name}", unlabelled=True)


def refused(folder: Path, code: str, sentence: str, name: str = "parse") -> None:
    with pytest.raises(DataError, match=sentence):
        parsed(folder, code, name)


def test_a_function_yields_tuples(folder: Path) -> None:
    code = """
    def parse(folder):
        for path in sorted(folder.glob("*.wav")):
            label, fold = path.stem.split("_")
            yield path.name, label, fold
    """
    clips = parsed(folder, code)
    found = [(clip.path, clip.label, clip.fold) for clip in clips]
    names = [("cat_1.wav", "cat", "1"), ("dog_1.wav", "dog", "1"), ("dog_2.wav", "dog", "2")]
    assert found == [(folder / name, label, fold) for name, label, fold in names]
    assert clips.root == folder


def test_dicts_clips_and_missing_labels(folder: Path) -> None:
    code = """
    from pathlib import Path
    from edgeaudio.data.clips import Clip

    def parse(folder):
        yield {"path": "dog_1.wav", "label": "dog", "start": 0.25, "end": 0.75, "split": "devel"}
        yield {"path": folder / "cat_1.wav", "label": None, "group": "kitchen"}
        yield Clip(Path("dog_2.wav"), "dog", split="test")
        yield ("dog_1.wav",)
        yield ["dog_1.wav", "dog", 3, "train"]
    """
    dog, cat, other, bare, listed = parsed(folder, code)
    assert (dog.start, dog.duration, dog.split) == (0.25, 0.5, "val")
    assert (cat.label, cat.group, cat.path) == ("", "kitchen", folder / "cat_1.wav")
    assert (other.path, other.split) == (folder / "dog_2.wav", "test")
    assert bare.label == ""
    assert (listed.fold, listed.split) == ("3", "train")


def test_classes_that_parse_or_iterate_and_whole_tables(folder: Path) -> None:
    code = """
    from edgeaudio.data.clips import Clip, Clips

    class Parser:
        def __init__(self, folder):
            self.folder = folder
        def parse(self):
            return [("dog_1.wav", "dog")]

    class Rows(Parser):
        parse = None
        def __iter__(self):
            return iter([("cat_1.wav", "cat")])

    def table(folder):
        return Clips(folder, (Clip(folder / "dog_2.wav", "dog"),), ("dog", "wolf"))
    """
    assert parsed(folder, code, "Parser")[0].label == "dog"
    assert parsed(folder, code, "Rows")[0].label == "cat"
    assert parsed(folder, code, "table").classes == ("dog", "wolf")


def test_a_module_here_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder.parent / "own_parsers_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "barn.py").write_text("def parse(folder):\n    return [('dog_1.wav', 'dog')]\n")
    monkeypatch.chdir(folder.parent)
    assert len(read(folder, parser="own_parsers_of_a_test.barn:parse")) == 1


def test_what_stands_beside_the_file_can_be_imported(folder: Path) -> None:
    (folder.parent / "names_of_a_test.py").write_text("ROWS = [('dog_1.wav', 'dog')]\n")
    code = """
    from names_of_a_test import ROWS

    def parse(folder):
        return ROWS
    """
    assert len(parsed(folder, code)) == 1


def test_a_parser_that_is_not_there(folder: Path) -> None:
    refused(folder, "def parser(folder): ...", r"mine\.py has no 'parse'; did you mean 'parser'")
    refused(folder, "parse = 3", "is no function or class but int")
    for name, sentence in (
        ("nowhere.py:parse", r"no such file as nowhere\.py; give path/to/file\.py:name"),
        ("no.such.module:parse", r"there is no module 'no\.such\.module'"),
        ("some/folder:parse", r"names no parser; give package\.module:name"),
    ):
        with pytest.raises(DataError, match=sentence):
            read(folder, parser=name)


def test_what_fails_in_it_is_said_with_its_line(folder: Path) -> None:
    refused(folder, "import nonsense_of_a_test", r"failed: ModuleNotFoundError: .*mine\.py, line 1\)")
    refused(folder, "def parse(folder):\n    yield 1 / 0", r"ZeroDivisionError: .*mine\.py, line 2\)")
    refused(folder, "def parse():\n    return []", "TypeError: parse.. takes 0 positional arguments")
    deep = "import json\ndef parse(folder):\n    return json.loads('{')"
    refused(folder, deep, r"JSONDecodeError: .*mine\.py, line 3\)")  # its own line, not the library's
    refused(folder, "def parse(:", r"failed: SyntaxError: .*mine\.py, line 1\)")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("3", "row 0: '3' must be .path, label, fold, split., a dict or a Clip"),
        ("('a', 'b', 'c', 'train', 'e')", "must be .path, label, fold, split."),
        ("{'path': 'dog_1.wav', 'lable': 'dog'}", "unknown field 'lable'; did you mean 'label'"),
        ("{'label': 'dog'}", "row 0: the path is None"),
        ("('dog_1.wav', 'dog', '', 'trian')", "row 0: unknown split 'trian'"),
        ("{'path': 'dog_1.wav', 'start': -1}", "row 0: start is -1; it must be a number of seconds"),
        ("('dog_1.wav', ['dog', {}])", "neither a text nor a number"),
        ("('dog_9.wav', 'dog')", r"1 of 1 files are missing, the first is .*dog_9\.wav"),
    ],
)
def test_a_row_that_is_not_as_it_should_be(row: str, sentence: str, folder: Path) -> None:
    refused(folder, f"def parse(folder):\n    return [{row}]", sentence)


def test_what_gives_no_rows(folder: Path) -> None:
    refused(folder, "def parse(folder):\n    return 3", "gave int; it must give Clips or rows")
    refused(folder, "def parse(folder):\n    return 'x'", "gave str; it must give Clips or rows")
    refused(folder, "def parse(folder):\n    return []", "found no clips in")
    with pytest.raises(DataError, match="has no subsets; leave --subset out"):
        read(folder, CsvColumns(subset="5"), parser="os.path:join")
