"""
The policy file: its models, how it is read, how it is compiled, and what authors are told about it.

Nothing is imported here: the models need pydantic, and only a gate needs the models.
"""
