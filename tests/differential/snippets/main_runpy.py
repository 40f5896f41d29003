import runpy
import sys

if __name__ == "__main__":
    print(sorted(runpy.run_path(__file__, run_name="again")))
    print(sys.argv)
    runpy.run_module("Main", run_name="third", alter_sys=True)
else:
    print(__name__, __file__)
