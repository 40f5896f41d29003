print(exit, quit, copyright, credits, license)
exit(4)
