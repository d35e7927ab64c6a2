// The schedule of a batch of attention on two lines: tasks cut by the request alone; dealt the longest first.
constexpr bool by_request = true, longest_first = true, two_lines = true;

#include "attention_schedule.cuh"
