"""The buffer before an allocation's end."""

from __future__ import annotations

import pytest

from lading.toolkit.domain.buffers import buffer_seconds


@pytest.mark.parametrize(
    ("asked", "whole", "buffer"),
    [(120.0, 3600.0, 120.0), (120.0, 120.0, 30.0), (0.0, 120.0, 0.0), (120.0, 0.0, 0.0), (120.0, -5.0, 0.0)],
)
def test_a_buffer_takes_a_quarter_at_most(asked: float, whole: float, buffer: float) -> None:
    assert buffer_seconds(asked, whole) == buffer
