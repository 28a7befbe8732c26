"""One file for each public layout of labelled sound; `edgeaudio.data.readers` chooses among them."""
