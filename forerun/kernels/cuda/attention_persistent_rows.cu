// The persistent attention kernel, where the rows that the batch has are named: it accesses no others anyway.

#include "attention_persistent.cu"
