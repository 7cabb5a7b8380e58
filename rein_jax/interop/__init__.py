"""Published checkpoints of whole models: the official Rein code's and EoMT's, both ways where there is one."""
