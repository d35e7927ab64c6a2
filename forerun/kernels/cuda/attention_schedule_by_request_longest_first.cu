// The schedule of a batch of attention: tasks cut by the request alone; dealt the longest first.
constexpr bool by_request = true, longest_first = true;

#include "attention_schedule.cuh"
