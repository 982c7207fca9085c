"""Side-by-side timings: each hot part in the form used here and in the plain form that it replaces.

Both forms run alternately in one process on the same input, after their results were compared, so the ratio holds on
this machine at this moment whatever else it is doing. The plain forms follow the public implementations that the UniA
specification describes (its section A), an installed library, or the definition itself.
"""
