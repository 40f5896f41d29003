import os

print(os.listdir("."), os.listdir("/home/code"), os.listdir("/tmp"), oct(os.stat(".").st_mode), os.access("/", os.W_OK))
st = os.stat("Main.py")
print(oct(st.st_mode), st.st_uid == os.getuid(), st.st_gid == os.getgid(), st.st_nlink, st.st_size)
open("new", "w").close()
print(oct(os.stat("new").st_mode), os.path.abspath("new"))
