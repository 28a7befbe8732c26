"""A bundle as a page for browsers: plain HTML, CSS and JavaScript, with ONNX Runtime's WebAssembly build."""

from edgeaudio.browser.page_folder import FACTS, write_page

__all__ = ["FACTS", "write_page"]
