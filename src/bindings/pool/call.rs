//! Calls with one argument, as quick as this interpreter can.

use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi::{self, PyObject};

type Vectorcall =
    unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, usize, *mut PyObject) -> *mut PyObject;

/// The caller lends the place before the arguments.
const ARGUMENTS_OFFSET: usize = 1 << (usize::BITS - 1);

/// `PyObject_Vectorcall` belongs to the stable interface from CPython 3.12 on; 3.11 has the same function, but no
/// module that is built for both may ask the linker for it. So it is asked for by its name.
fn vectorcall() -> Option<Vectorcall> {
    static FOUND: OnceLock<Option<Vectorcall>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"PyObject_Vectorcall".as_ptr()) };
        // SAFETY: CPython documents this signature, and has kept it since 3.9.
        (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut libc::c_void, Vectorcall>(found) })
    })
}

/// `function(argument)`: a new reference, or null with an exception set.
///
/// # Safety
/// Both must be alive, and the thread attached.
#[inline]
pub(super) unsafe fn with_one(function: *mut PyObject, argument: *mut PyObject) -> *mut PyObject {
    let none = ptr::null_mut::<PyObject>();
    let Some(vectorcall) = vectorcall() else {
        // SAFETY: the list of arguments ends with a null.
        return unsafe { ffi::PyObject_CallFunctionObjArgs(function, argument, none) };
    };
    let arguments = [none, argument];
    // SAFETY: one argument, and a place before it that the callee may write to and restores.
    unsafe { vectorcall(function, arguments.as_ptr().add(1), 1 | ARGUMENTS_OFFSET, none) }
}
