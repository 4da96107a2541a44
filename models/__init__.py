"""Answer with models: chat models by role, structured calls with bounded repair, the scripted model.

Every model call goes through here, so that all calls are counted, retried in the same way, and fail with one
family of errors. Nothing is imported until it is used: ``from plan_execute.models.chat import ChatModels``
and so on.
"""
