"""How many threads are used by default."""

from pathlib import Path

import pytest

from varprop import _core, _threads


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A control group of a machine with eight cores."""
    monkeypatch.setattr(_threads, "GROUP", tmp_path)
    monkeypatch.setattr(_core, "available_threads", lambda: 8)
    _threads.available.cache_clear()
    yield tmp_path
    _threads.available.cache_clear()


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("9000000 100000\n", 8),
        ("nonsense", 8),
    ],
)
def test_a_quota_of_cpu_time_is_respected(group: Path, text: str, cores: int) -> None:
    (group / "cpu.max").write_text(text)
    assert _threads.thread_count(None) == cores


@pytest.mark.parametrize(("quota", "cores"), [(-1, 8), (300000, 3)])
def test_so_is_that_of_the_older_groups(group: Path, quota: int, cores: int) -> None:
    (group / "cpu").mkdir()
    (group / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert _threads.thread_count(None) == cores


def test_what_is_asked_for_is_taken(group: Path) -> None:
    (group / "cpu.max").write_text("100000 100000\n")
    assert _threads.thread_count(5) == 5
    with pytest.raises(ValueError, match="threads must be an integer >= 1"):
        _threads.thread_count(0)
