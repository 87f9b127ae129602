"""Cards by name, and what a person hears who mistypes one."""

from __future__ import annotations

import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.cards import CARDS, card_for, parse_cards


def test_three_generations():
    cards = parse_cards("rtx30, RTX40,rtx50")
    assert [card.name for card in cards] == ["rtx30", "rtx40", "rtx50"]
    assert [card.capability for card in cards] == ["8.6", "8.9", "12.0"]


def test_each_card_parses_alone_and_is_found_by_its_capability():
    for name, card in CARDS.items():
        assert parse_cards(name) == (card,) and card.name == name
        assert card.capability is None or card_for(card.capability) is card


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rtx3o", "did you mean rtx30?"),
        ("RTX 5070 Ti", "did you mean rtx50?"),
        ("rtx4090", "did you mean rtx40?"),
        ("3080", "did you mean rtx30? choose from rtx20, rtx30"),
        ("h200", "no card is called 'h200'; choose from rtx20, rtx30, rtx40"),
        ("", "no card is called ''; choose from"),
        ("rtx30,", "no card is called ''"),
        ("rtx30,rtx40,rtx30", "rtx30 is named twice"),
        ("portable,rtx30", "`portable` stands alone"),
        ("rtx30,this", "`this` stands alone"),
    ],
)
def test_one_line_says_what_to_type(text, said):
    with pytest.raises(UserError) as raised:
        parse_cards(text)
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("capability", ["6.1", "7.0", "8.7", "9.0", "10.0"])
def test_cards_that_the_library_does_not_list(capability):
    assert card_for(capability) is None


def test_the_list_is_the_librarys_own():
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert {card.sdk for card in CARDS.values()} - {None} == set(trt.ComputeCapability.__members__) - {"NONE"}
