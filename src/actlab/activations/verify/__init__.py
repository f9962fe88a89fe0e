"""Is a dump what it says it is?"""
