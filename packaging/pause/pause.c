/*
 * The process that holds a pod's namespaces. It reaps whatever is orphaned to it (it is PID 1 when the pod shares
 * its PID namespace), ends at once on SIGTERM or SIGINT, and sleeps otherwise.
 *
 * No libc: signals are blocked and waited for, so there are no handlers, no races, and the binary stays tiny.
 */

#if defined(__x86_64__)
enum { SYS_RT_SIGPROCMASK = 14, SYS_WAIT4 = 61, SYS_RT_SIGTIMEDWAIT = 128, SYS_EXIT_GROUP = 231 };

static long system_call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
enum { SYS_EXIT_GROUP = 94, SYS_RT_SIGPROCMASK = 135, SYS_RT_SIGTIMEDWAIT = 137, SYS_WAIT4 = 260 };

static long system_call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "pause.c knows x86_64 and aarch64"
#endif

enum { SIGNAL_INT = 2, SIGNAL_TERM = 15, SIGNAL_CHLD = 17, BLOCK = 0, NO_HANG = 1 };

static unsigned long bit(int signal)
{
	return 1UL << (signal - 1);
}

/* The kernel enters here with the stack as it likes; force_align matters on x86 only and is harmless elsewhere. */
#if defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
__attribute__((noreturn)) void _start(void)
{
	unsigned long awaited = bit(SIGNAL_INT) | bit(SIGNAL_TERM) | bit(SIGNAL_CHLD);

	system_call(SYS_RT_SIGPROCMASK, BLOCK, (long)&awaited, 0, sizeof(awaited));
	for (;;) {
		long signal = system_call(SYS_RT_SIGTIMEDWAIT, (long)&awaited, 0, 0, sizeof(awaited));

		if (signal == SIGNAL_INT || signal == SIGNAL_TERM)
			for (;;)
				system_call(SYS_EXIT_GROUP, 0, 0, 0, 0);
		while (system_call(SYS_WAIT4, -1, 0, NO_HANG, 0) > 0)
			;
	}
}
