import itertools
import keyword
import string

text = string.ascii_letters
text += "!"
print(text, string.ascii_letters)
names = keyword.kwlist
print(len(names), names[:3])
words = tuple(names)
words += ("more",)
print(len(words), len(keyword.kwlist))
print(string.digits.join(itertools.chain("ab", string.digits)))
frozen = frozenset(names)
frozen |= {"new"}
print(len(frozen), keyword.iskeyword("new"), keyword.iskeyword("if"))
