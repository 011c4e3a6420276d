#include "c/fib.h"

int main(void) { return fib(10) == 55 ? 0 : 1; }
