"""The plan language: order, identity, references, rules, notations, files, revisions."""
