"""Predictions of long recordings against lists of what sounds from when to when.

Read a list (`reading`) and find its recording (`pairing`), agree on labels (`naming`), score the recording
(`scoring`), lay both on a grid of time (`grid`), count (`figures`, `sound_events`), write and draw (`report`,
`timeline`).
"""
