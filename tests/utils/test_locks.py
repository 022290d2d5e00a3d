import errno
import threading

import pytest

from src.utils.locks import alone


def test_one_is_alone_at_a_time(tmp_path):
    order = []

    def second():
        with alone(tmp_path / "lock") as kept_out:
            order.append(kept_out)

    with alone(tmp_path / "lock") as kept_out:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert kept_out
    assert order == ["first", True]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_nobody_waits(tmp_path, monkeypatch, code):
    def no_locks(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with alone(tmp_path / "lock") as first, alone(tmp_path / "lock") as second:
        assert not first
        assert not second


def test_a_failure_within_ends_the_lock(tmp_path):
    with pytest.raises(OSError, match="full"), alone(tmp_path / "lock"):
        raise OSError("full")
    with alone(tmp_path / "lock") as kept_out:
        assert kept_out
