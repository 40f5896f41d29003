import annotationlib


class Loud:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("gone", self.name)


def later(x: undefined_name, y: [Loud("by an annotation")] = 1):
    try:
        return x
    except TypeError, ValueError:
        pass


held = t"{Loud('in a template')} and {1 + 1=}"
print(held.strings, held.interpolations[1].expression)
print(annotationlib.get_annotations(later, format=annotationlib.Format.STRING))
try:
    later.__annotations__
except NameError as error:
    print(error)
