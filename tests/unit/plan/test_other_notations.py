"""References in the notations of other tools are told from texts that only look like them."""

from __future__ import annotations

import pytest

from plan_execute.plan.other_notations import other_notations
from plan_execute.plan.references import resolve


def _meant(name: str, path: str) -> str | None:
    return f"${{{name}{path}}}" if name in ("user", "item") else None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("{{user.mail}}", "${user.mail}"),
        ("{{ user }}", "${user}"),
        ("{{ steps.user.output.mail }}", "${user.mail}"),
        ("{{user['mail']}}", "${user.mail}"),
        ("Dear {{ user.names[0].first }},", "${user.names[0].first}"),
        ("$user.mail", "${user.mail}"),
        ("for $item:", "${item}"),
        ("it is $user.", "${user}"),
        ("{user.mail}", "${user.mail}"),
        ("Dear {user.mail}", "${user.mail}"),
        ("{user}", "${user}"),
        ("<user.mail>", "${user.mail}"),
        ("<user>", "${user}"),
        ("[[user.mail]]", "${user.mail}"),
        ("$(user.mail)", "${user.mail}"),
        ("#{user.mail}", "${user.mail}"),
        ("<<user>>", "${user}"),
    ],
)
def test_another_notation_is_found_with_the_right_form_and_a_way_to_mean_the_characters(
    text: str, right: str
) -> None:
    (found,) = other_notations(text, _meant)
    assert found.right == right
    literal = text.replace(found.text, found.literal)
    assert resolve(literal, {}) == text
    assert list(other_notations(literal, _meant)) == []


@pytest.mark.parametrize(
    "text",
    [
        "$HOME and $5 and $1,000 and $1.50",
        "{{user_template}} {other.x} <b> {} [] $",
        "<li><user></li>",
        "a {user} b",
        "${user.mail}",
        "$${user.mail}",
        "$${{ user.mail }}",
        "${user.mail} and ${length(user.mails[?x == '{user.y}'])}",
        "\\$user",
        "$$user",
        "user.mail",
        '{"user": {"mail": 1}}',
    ],
)
def test_what_names_nothing_or_is_ours_is_left_alone(text: str) -> None:
    assert list(other_notations(text, _meant)) == []
