"""
>>> 1 + 1
3
>>> undefined
Traceback (most recent call last):
NameError: name 'undefined' is not defined
"""
import doctest

print(doctest.testmod())
