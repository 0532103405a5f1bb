"""Programs for accelerators that need not be there: compiled without one, and read.

`targets` names the devices and their constants, `programs` compiles for them and tells memory and a modelled time,
`hlo` and `work` read what the compiler made.
"""
