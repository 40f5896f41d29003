# `json` may have been imported, and frozen, before this began.
import json


class A:
    def __del__(self):
        print("del in json")


json.mine = A()
