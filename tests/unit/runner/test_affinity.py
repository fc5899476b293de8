from __future__ import annotations

from pathlib import Path

import pytest

from lading.toolkit.errors import BadInput
from lading.toolkit.runner.affinity import cpu_groups, numa_nodes, parse_cpu_list


def describe(folder: Path, *lists: str) -> None:
    for number, text in enumerate(lists):
        (folder / f"node{number}").mkdir()
        (folder / f"node{number}" / "cpulist").write_text(text + "\n")


def test_groups_never_span_two_numa_nodes(tmp_path: Path) -> None:
    describe(tmp_path, "0-4,10-11", "5-9")
    nodes = numa_nodes(tmp_path, range(12))
    assert nodes == [(0, 1, 2, 3, 4, 10, 11), (5, 6, 7, 8, 9)]
    assert cpu_groups(3, nodes) == ((0, 1, 2), (3, 4, 10), (5, 6, 7))
    assert cpu_groups(4, nodes) == ((0, 1, 2, 3), (5, 6, 7, 8))


def test_only_usable_cpus_count_and_none_is_lost(tmp_path: Path) -> None:
    describe(tmp_path, "0-3", "", "4-7")
    assert numa_nodes(tmp_path, {2, 3, 4, 9}) == [(2, 3), (4,), (9,)]
    assert numa_nodes(tmp_path / "absent", {0, 1}) == [(0, 1)]


def test_many_small_groups_are_sound() -> None:
    # More groups than CPUs in a group: torc's check refused this.
    assert len(cpu_groups(2, [range(8), range(8, 16)])) == 8


def test_groups_stay_within_the_cpus_that_are_given() -> None:
    assert len(cpu_groups(2, [range(64)], num_cpus=5)) == 2


@pytest.mark.parametrize(("size", "most", "words"), [(5, None, "1 to 4"), (4, 3, "1 to 3")])
def test_what_fits_nowhere_is_refused(size: int, most: int | None, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        cpu_groups(size, [range(4), range(4, 8)], num_cpus=most)


@pytest.mark.parametrize("text", ["", "a", "1-", "0,,2"])
def test_an_unreadable_list_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cpu_list(text)
