"""The commands of `purerl`: for each a light module of its `Options`, in `options`, and one with `run(options)`.

Nothing outside `purerl.cli` imports this package: what is useful beyond one command lives in the library.
"""
