"""What a scripted model was sent, by role."""

from __future__ import annotations

import re

from plan_execute import ScriptedModel

__all__ = ["shown_to"]


def shown_to(model: ScriptedModel, role: str) -> list[str]:
    """Every prompt that a role was sent, system and human message, without the marks of quotations."""
    texts = ["\n".join(str(m.text) for m in call.messages) for call in model.calls if call.role == role]
    return [re.sub(r"\b[0-9a-f]{8}\b", "MARK", text) for text in texts]
