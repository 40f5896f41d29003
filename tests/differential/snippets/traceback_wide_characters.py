größe = "日本語"
print(größe, "🎉"); größe.föo + "日本語🎉"
