keep = [[i] for i in range(100_000)]
{}["missing"]
