"""Who answers: chat models by role, structured calls with bounded repair, the scripted model.

Every call to a model goes through here, so that all of them are counted, retried
alike, and fail with one family of errors.  Nothing is imported until it is used:
``from plan_execute.models.chat import ChatModels`` and so on.
"""
