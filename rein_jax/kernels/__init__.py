"""Operations with forms of their own for CPU, GPU or TPU; the only place that asks which platform a program is for."""
