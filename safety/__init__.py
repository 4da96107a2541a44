"""What must not hold anybody up: patterns, expressions and schemas of others run with bounded work.

They come from plans, models, tools and MCP servers. None of them reaches the network, and none of them
may take longer, or nest deeper, than is said here.
"""
