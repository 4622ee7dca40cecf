def converted(x):
    return x
