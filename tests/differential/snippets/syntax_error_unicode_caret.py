größe = "日本語" if
