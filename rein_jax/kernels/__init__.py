"""Operations with forms of their own for CPU, GPU or TPU, one a file; the only place that asks which platform a program is made for.

A file has private functions of one signature, the forms; `FORMS: dict[str, Callable]`, which names them, "reference" being the plain one
that runs everywhere; and the public function, which picks a form by `platforms.target()` and static shapes. A further form (a Pallas
kernel) goes beside the others, or into `<operation>_<platform>.py` where it is long, and gets its entry in FORMS and its case in the
choice; `tests/kernels/test_<operation>.py` then holds its values and gradients to the reference. An operation with one form has no FORMS.
"""
