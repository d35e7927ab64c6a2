// The schedule of a batch of attention on two lines: tasks cut by the request alone; dealt in equal shares of the line of all work, or in turns.
constexpr bool by_request = true, longest_first = false, two_lines = true;

#include "attention_schedule.cuh"
