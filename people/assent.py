"""List the words that approve in a chat, so that no model decides it."""

from __future__ import annotations

__all__ = ["WORDS_OF_APPROVAL", "is_approval"]

WORDS_OF_APPROVAL: dict[str, tuple[str, ...]] = {
    "en": ("yes", "y", "yes please", "ok", "okay", "approve", "approved", "accept", "go", "go ahead", "lgtm"),
    "de": ("ja", "ja bitte", "in ordnung", "einverstanden", "genehmigt", "freigegeben"),
    "fr": ("oui", "d'accord", "approuvé"),
    "es": ("sí", "si", "de acuerdo", "aprobado"),
    "it": ("sì", "va bene", "d'accordo", "approvato"),
    "pt": ("sim", "está bem", "aprovado"),
    "nl": ("akkoord", "goedgekeurd"),
    "pl": ("zgoda",),
    "zh": ("是", "好", "好的", "可以", "同意", "批准"),
    "ja": ("はい", "承認", "承認します"),
    "ko": ("네", "예", "승인"),
}
"""Approving words by language. The whole text must be one of them, ignoring case and one final mark.

Words with another meaning in another language are left out: ``tak`` is *yes* in Polish and *not* in Malay.
"""

_ALL = frozenset(word for words in WORDS_OF_APPROVAL.values() for word in words)


def is_approval(text: str) -> bool:
    """Tell whether a text says yes and nothing else."""
    plain = text.strip().replace("’", "'").casefold()
    said = plain[:-1] if plain.endswith((".", "!", "。", "！")) else plain
    return " ".join(said.split()) in _ALL
