"""The ledger counts each kind of wrong as what it is."""

import pytest

from tests.chaos.ledger import Ledger


def ledger(*received: int | None, tried: int = 6, failed: tuple[int, ...] = ()) -> Ledger:
    it = Ledger()
    it.tried["a"] = set(range(tried))
    it.acknowledged["a"] = set(range(tried)) - set(failed)
    it.received.append(("a", list(received)))
    return it


@pytest.mark.parametrize(
    ("received", "wrong"),
    [
        ((0, 1, 2, 3, 4, 5), ""),
        ((0, 1, 3, 4, 5), "silent"),
        ((1, 2, 3, 4, 5), "silent"),
        ((0, 1, 2, 3, 4), "silent"),
        ((), "silent"),
        ((0, 1, None, 4, 5), ""),
        ((0, 1, 2, None), ""),
        ((0, 1, None, 3, 5), "silent"),
        ((0, 1, None, 3, 4), "silent"),
        ((0, 1, 1, 2, 3, 4, 5), "duplicates"),
        ((0, 1, 2, 3, 4, 5, 7), "unexpected"),
    ],
)
def test_each_wrong_is_counted_as_what_it_is(received: tuple[int | None, ...], wrong: str) -> None:
    verdict = ledger(*received).verdict()
    assert verdict.is_clean is (not wrong)
    for kind in ("silent", "duplicates", "disordered", "unexpected"):
        assert bool(getattr(verdict, kind)) is (kind == wrong), kind


def test_what_comes_too_late_is_out_of_order_even_where_a_gap_was_notified() -> None:
    verdict = ledger(0, 1, None, 3, 2, 4, 5).verdict()
    assert (verdict.disordered, verdict.silent) == (1, 0)


def test_what_failed_may_arrive_and_need_not() -> None:
    for received in ((0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5)):
        assert ledger(*received, failed=(3,)).verdict().is_clean
    assert ledger(0, 1, 2, 4, 3, 5, failed=(3,)).verdict().is_clean
    assert ledger(0, 1, 2, 4, 3, 3, 5, failed=(3,)).verdict().duplicates == 1
    verdict = ledger(0, None, 4, 5).verdict()
    assert (verdict.expected, verdict.delivered, verdict.notified) == (6, 3, 1)
