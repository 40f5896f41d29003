import sys
import unittest


class T(unittest.TestCase):
    def test_fails(self):
        self.assertEqual(1 + 1, 3)

    def test_passes(self):
        pass

    @unittest.skip("reason")
    def test_skipped(self):
        pass


class Runner(unittest.TextTestRunner):
    # the time taken is not for comparison
    def run(self, test):
        result = unittest.TestResult()
        test.run(result)
        print(result.testsRun, [f[1] for f in result.failures], result.skipped)
        return result


unittest.main(testRunner=Runner)
