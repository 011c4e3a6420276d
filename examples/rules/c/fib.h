#pragma once
unsigned fib(unsigned n);
