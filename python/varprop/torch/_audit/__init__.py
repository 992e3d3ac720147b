"""Whether the parameters of a model have the laws that they should.

Subjects (a parameter and the laws it may have) are measured, held against their law, and looked
through for copies; what is wrong is told in words and in a table.
"""
