package plugin

import (
	"fmt"
	"syscall"
)

// reserveMemory maps n zero bytes; the kernel gives pages as they are touched.
func reserveMemory(n int64) ([]byte, error) {
	b, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserving %d bytes of memory for a plugin: %w", n, err)
	}
	return b, nil
}

func unreserve(b []byte) { _ = syscall.Munmap(b) } // fails only for a slice that is no mapping

// zero makes a range zero and gives its pages back to the kernel.
func zero(b []byte) {
	if len(b) > 0 && syscall.Madvise(b, syscall.MADV_DONTNEED) != nil {
		clear(b)
	}
}
