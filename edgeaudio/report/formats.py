"""Numbers as a reader wants them: the template's filters.

Every filter takes whatever the report holds; what is missing or not finite becomes an en dash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeGuard
from urllib.parse import urlsplit

NONE = "–"
THIN = "\u202f"  # narrow no-break space, between a number and its unit
MINUS = "−"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite number; booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def fixed(value: Any, digits: int = 3) -> str:
    """``0.12345`` → ``0.123``."""
    return _sign(f"{_half_up(value, digits):,.{digits}f}") if is_number(value) else NONE


def count(value: Any) -> str:
    """``29419156`` → ``29,419,156``."""
    return fixed(value, 0)


def compact(value: Any) -> str:
    """``29419156`` → ``29.42 M``: four digits, a unit of a thousand."""
    if not is_number(value):
        return NONE
    # 999,950 would round to "1000 k": the step up comes where the rounding does
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.99995:
            return _sign(f"{value / size:.4g}") + THIN + unit
    return _sign(f"{value:.4g}")


def size(value: Any) -> str:
    """Bytes in decimal units: ``61148`` → ``61.15 kB``, as the DCASE limits count them."""
    text = compact(value)
    return text if text == NONE else text + ("B" if THIN in text else THIN + "B")


def percent(value: Any, digits: int = 1) -> str:
    """A share between 0 and 1: ``0.9375`` → ``93.8 %``."""
    return fixed(value * 100, digits) + THIN + "%" if is_number(value) else NONE


def points(value: Any) -> str:
    """A change of a share, in percentage points: ``-0.0125`` → ``−1.3 pt``."""
    if not is_number(value):
        return NONE
    change = _half_up(value * 100, 1)
    return _sign(f"{change:+.1f}" if change else "0.0") + THIN + "pt"


def small(value: Any) -> str:
    """A deviation: ``3.12e-06`` → ``3.1e−6``, and ``0.0123`` → ``0.012``."""
    if not is_number(value):
        return NONE
    if value == 0 or abs(value) >= 1e-3:
        return _sign(f"{value:.3g}")
    mantissa, exponent = f"{value:.1e}".split("e")
    return _sign(f"{mantissa}e{int(exponent)}")


def duration(seconds: Any) -> str:
    """``75`` → ``1 min 15 s``; the two largest units."""
    if not is_number(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.3g}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min" + (f" {rest}{THIN}s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h" + (f" {minutes}{THIN}min" if minutes else "")


def shape(value: Any) -> str:
    """``[1, 1, 256, 65]`` → ``1 × 1 × 256 × 65``."""
    return " × ".join(str(side) for side in value) if isinstance(value, (list, tuple)) and value else NONE


def text(value: Any) -> str:
    """A string as it is; a list of strings one a line; anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def local_link(value: Any) -> str:
    """The link if it stays beside the report; an empty string for any other site or scheme."""
    if not isinstance(value, str):
        return ""
    parts = urlsplit(value.replace("\\", "/"))
    return "" if parts.scheme or parts.netloc else value


def role_class(role: Any) -> str:
    """The CSS class that gives a role its one colour on the whole page."""
    word = str(role).lower()
    return next((name for name in ("int8", "teacher", "student") if name in word), "other")


def _half_up(value: float, digits: int) -> Decimal:
    """Round as people do: with few clips, shares such as 96.25 % are common, and `format` makes it 96.2."""
    exact = Decimal(repr(round(float(value), 12)))  # 12 decimals: 0.5750 * 100 is 57.499999999999993
    return exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def _sign(number: str) -> str:
    return number.replace("-", MINUS)


FILTERS: dict[str, Callable[..., str]] = {
    "fixed": fixed,
    "count": count,
    "compact": compact,
    "size": size,
    "percent": percent,
    "points": points,
    "small": small,
    "duration": duration,
    "shape": shape,
    "text": text,
    "local_link": local_link,
    "role": role_class,
}
