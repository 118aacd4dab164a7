"""Texts that break programs which do not escape them."""

from __future__ import annotations

EVIL = '</script><script>alert(1)</script>\u2028\u2029<!-- "quotes" \'& &amp; <b'
