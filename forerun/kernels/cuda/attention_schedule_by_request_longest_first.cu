// The schedule of a batch of attention: tasks cut by the request alone; dealt the longest first.
constexpr bool by_request = true, longest_first = true, two_lines = false;

#include "attention_schedule.cuh"
