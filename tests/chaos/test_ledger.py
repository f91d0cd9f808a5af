"""The checker sees each kind of wrong."""

import pytest

from tests.chaos.ledger import Ledger


def ledger(*given: int | None, tried: int = 6, failed: tuple[int, ...] = ()) -> Ledger:
    it = Ledger()
    it.tried["a"] = set(range(tried))
    it.acknowledged["a"] = set(range(tried)) - set(failed)
    it.given.append(("a", list(given)))
    return it


@pytest.mark.parametrize(
    ("given", "wrong"),
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
        ((0, 1, 1, 2, 3, 4, 5), "twice"),
        ((0, 1, 2, 3, 4, 5, 7), "unexpected"),
    ],
)
def test_each_wrong_is_counted_as_what_it_is(given: tuple[int | None, ...], wrong: str) -> None:
    verdict = ledger(*given).verdict()
    assert verdict.is_clean is (not wrong)
    for kind in ("silent", "twice", "disordered", "unexpected"):
        assert bool(getattr(verdict, kind)) is (kind == wrong), kind


def test_what_comes_too_late_is_out_of_order_even_where_a_loss_was_told() -> None:
    verdict = ledger(0, 1, None, 3, 2, 4, 5).verdict()
    assert (verdict.disordered, verdict.silent) == (1, 0)


def test_what_failed_may_arrive_and_need_not() -> None:
    for given in ((0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5)):
        assert ledger(*given, failed=(3,)).verdict().is_clean
    assert ledger(0, 1, 2, 4, 3, 5, failed=(3,)).verdict().is_clean
    assert ledger(0, 1, 2, 4, 3, 3, 5, failed=(3,)).verdict().twice == 1
    verdict = ledger(0, None, 4, 5).verdict()
    assert (verdict.expected, verdict.delivered, verdict.told) == (6, 3, 1)
