/** Why a request of the editor is not answered as asked, with the status of HTTP that says so. */
export class HttpError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
