raise ValueError("lone \udc80 surrogate and \u2028 and \x00 and \x1b[31m")
