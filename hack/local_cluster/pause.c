/* The container that holds a pod's namespaces: sleeps until told to end. As process 1 of a shared
   process namespace it also collects the pod's orphans. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

int main(void) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &awaited, 0) != 0) return 1;
    for (;;) {
        int number = 0;
        if (sigwait(&awaited, &number) != 0) return 1;
        if (number != SIGCHLD) return 0;
        while (waitpid(-1, 0, WNOHANG) > 0 || errno == EINTR) errno = 0;
    }
}
