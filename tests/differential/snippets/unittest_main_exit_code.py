import unittest


class T(unittest.TestCase):
    def test(self):
        pass


unittest.main(argv=["x", "-q"], testRunner=type("R", (), {"__init__": lambda s, **k: None, "run": lambda s, t: t.run() or unittest.TestResult()}))
