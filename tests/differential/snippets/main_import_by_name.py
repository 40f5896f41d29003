print("running as", __name__)
import Main

print(Main is __import__("__main__"), Main.__name__, Main.__file__, sorted(n for n in vars(Main) if "cached" not in n))
